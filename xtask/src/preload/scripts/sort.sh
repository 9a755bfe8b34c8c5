text $((40000 * SCALE)) > file
sort --parallel=4 -S 8M -T . -k 2,2 -k 1,1n file | digest
sort --parallel=4 -S 200M -r -k 6 file | digest
sort -u -k 2,2 file | wc -l
sort -n -c -k 1,1 file && echo sorted
split -n l/5 -d file part.
for part in part.*; do sort -o "$part" "$part" & done
wait
sort -m part.* | digest
sort -R --random-source=file file | wc -l
