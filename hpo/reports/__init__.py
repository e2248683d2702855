"""Reports: what a study found, for people (leaderboard) and for programs (summary)."""
