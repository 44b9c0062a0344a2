"""
The process model under load: reloads, upgrades, killed workers and stops, C{python -m benchmarks.drills}.

Two processes stand around the proxy: an origin (L{benchmarks.drills.origin}) that knows which requests have reached it,
and the clients (L{benchmarks.drills.clients}), which check each answer and say of each trouble what kind it was.
"""
