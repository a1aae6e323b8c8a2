"""What recgen measures: pure functions on arrays, and one table (`registry`) that names and explains them.

`personalisation`, `semantics` and `distribution` compute; `statistics` says how sure the numbers are;
`networks` holds the two metrics' networks whose weights may be absent.
"""
