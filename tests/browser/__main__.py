"""`python -m tests.browser` takes the README's images."""

from tests.browser import main

main()
