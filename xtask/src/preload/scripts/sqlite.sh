rows=$((20000 * SCALE))
sqlite3 store.db <<END
.system [ -z "\$LD_PRELOAD" ] || grep -qF "\$LD_PRELOAD" /proc/\$PPID/maps || echo "not loaded"
PRAGMA journal_mode = WAL;
CREATE TABLE item (id INTEGER PRIMARY KEY, kind INTEGER, name TEXT, body BLOB);
BEGIN;
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < $rows)
INSERT INTO item SELECT i, i * 7919 % 101, printf('name %d of %x', i * 31 % 5003, i),
    zeroblob(i % 300) FROM n;
COMMIT;
CREATE INDEX by_kind ON item (kind, name);
CREATE INDEX by_name ON item (name);
SELECT count(*), sum(kind), sum(length(name)), sum(length(body)) FROM item;
SELECT kind, count(*), max(name) FROM item GROUP BY kind ORDER BY 2 DESC, 1 LIMIT 5;
UPDATE item SET name = name || ' more', body = zeroblob(length(body) * 2) WHERE kind % 3 = 0;
DELETE FROM item WHERE kind % 5 = 1;
SELECT count(*) FROM item a JOIN item b ON a.name = b.name WHERE a.id < b.id;
SELECT group_concat(name) FROM (SELECT name FROM item ORDER BY name DESC LIMIT 20);
SELECT length(group_concat(name)) FROM item;
VACUUM;
ANALYZE;
PRAGMA integrity_check;
PRAGMA quick_check;
END
sqlite3 store.db .dump | digest
sqlite3 store.db .dump | sqlite3 copy.db
sqlite3 copy.db 'PRAGMA integrity_check; SELECT count(*), sum(id) FROM item;'
