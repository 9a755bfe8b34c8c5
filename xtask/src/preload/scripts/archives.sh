mkdir folder
text $((20000 * SCALE)) | split -a 4 -l 500 - folder/part.
find folder -type f | sort | xargs sha256sum | digest
pack=(tar --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner -c folder)
"${pack[@]}" | xz -T2 -3 --block-size=1MiB > folder.tar.xz
"${pack[@]}" | zstd -q -T2 -10 > folder.tar.zst
"${pack[@]}" | gzip -n > folder.tar.gz
for end in xz zst gz; do digest < "folder.tar.$end"; done
xz -t folder.tar.xz
for end in xz zst gz; do
    mkdir "from.$end"
    tar -C "from.$end" -x -f "folder.tar.$end"
    (cd "from.$end" && find folder -type f | sort | xargs sha256sum | digest)
done
