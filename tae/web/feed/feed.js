/* What an explorer gets beside its own data, in small pieces, so that a click sends no map anew: it draws nothing itself.
 *
 * data: {memory: the explorer's, digest: its image's, feed: "heads", "outcome" or "losses", ...}.
 */

const feeds = (globalThis.taeFeeds ??= { latest: new Map(), listeners: new Set() });

/** Hand data on to the explorers that are there, and keep it for those that come later. */
function feed({ data }) {
  if (!data) return;
  feeds.latest.set(`${data.memory} ${data.feed}`, data);
  for (const listener of feeds.listeners) listener(data);
}

export default feed;
