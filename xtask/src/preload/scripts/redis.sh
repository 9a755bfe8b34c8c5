redis-server --port 0 --unixsocket "$PWD/socket" --save '' --dir "$PWD" --appendonly yes \
    --enable-debug-command yes > log &
server=$!
trap 'kill $server 2> /dev/null || true; cat log >&2' EXIT
client() { redis-cli -s socket "$@"; }
for ((i = 0; i < 600; i++)); do
    [ "$(client ping 2> /dev/null || true)" != PONG ] || break
    kill -0 "$server"
    sleep 0.1
done
client ping
expect_loaded "$server"
redis-benchmark -s socket -n $((10000 * SCALE)) -c 20 -d 100 -r 10000 -q \
    -t set,get,incr,lpush,rpush,lpop,sadd,hset,spop,zadd,mset > benchmark
grep -c 'requests per second' benchmark
redis-benchmark -s socket -n $((2000 * SCALE)) -c 10 -d 20000 -P 8 -r 1000 -q -t set,get > benchmark
client flushall
awk -v count=$((5000 * SCALE)) 'BEGIN {
    for (i = 0; i < count; i++) {
        printf "SET string:%d %0*d\r\n", i, i % 700 + 1, i
        printf "HSET hash:%d field%d %d\r\n", i % 100, i, i
        printf "ZADD sorted:%d %d member%d\r\n", i % 10, i * 7919 % 1000, i
        printf "RPUSH list:%d element%d\r\n", i % 50, i
    }
}' | client --pipe | tail -1
client dbsize
client debug digest
client eval 'local t = {} for i = 1, 20000 do t[i] = tostring(i) end return #table.concat(t)' 0
persistence() { client info persistence | tr -d '\r' | grep "$1:"; }
client bgsave
for ((i = 0; i < 600; i++)); do
    [ "$(persistence rdb_bgsave_in_progress)" = rdb_bgsave_in_progress:1 ] || break
    sleep 0.1
done
persistence rdb_last_bgsave_status
client debug reload
client debug digest
client info memory | grep -c '^used_memory:'
client memory usage string:1 > /dev/null
client config set activedefrag no
client flushall
client shutdown nosave || true
wait "$server"
trap - EXIT
echo stopped
