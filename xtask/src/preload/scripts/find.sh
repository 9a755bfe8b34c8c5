for ((i = 0; i < 20 * SCALE; i++)); do
    mkdir -p "tree/$((i % 7))/$i"
    for ((j = 0; j < 20; j++)); do echo "$i $j" > "tree/$((i % 7))/$i/file $j"; done
done
find tree -type f | wc -l
find tree -type f -print0 | xargs -0 -P 4 -n 50 sha256sum | sort | digest
find tree -name '*1*' -newermt 2000-01-01 -size -2 -printf '%p %s\n' | sort | digest
find tree -type f -name 'file 3' -exec cat {} + | sort -n | digest
find tree -regex '.*/[0-9]*[02468]/.*9' | wc -l
find tree -type f -print0 | xargs -0 -n 100 -P 3 sh -c 'echo $#' sh |
    awk '{s += $1} END {print s}'
find tree -depth -name 'file 1*' -delete
find tree -type f | wc -l
