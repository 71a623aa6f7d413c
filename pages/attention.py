"""Where old links lead: attention is on the page Explore."""

import streamlit as st

st.switch_page("app.py", query_params=st.query_params.to_dict())
