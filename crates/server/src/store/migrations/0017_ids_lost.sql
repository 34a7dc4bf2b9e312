-- The first day of which ids of live usage were forgotten, where some were before this was noted.
INSERT INTO facts (name, value)
SELECT 'ids_lost_from_day', CAST(MIN(l.event_ms) / 86400000 AS TEXT)
FROM facts f CROSS JOIN usage_log l
WHERE f.name = 'ids_from_day' AND l.event_ms < CAST(f.value AS BIGINT) * 86400000 AND l.kind = 0 AND l.source NOT IN (4, 8)
HAVING MIN(l.event_ms) IS NOT NULL
ON CONFLICT (name) DO NOTHING;
