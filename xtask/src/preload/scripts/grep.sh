text $((50000 * SCALE)) > file
ls -l file | awk '{print $5}'
grep -c '' file
grep -c 'word99' file
grep -cF 'jumps' file
grep -ciE '(fox|FOX) (jumps|flies)' file
grep -cv 'word1' file
grep -cE '([a-z]+) \1' file
grep -o 'word[0-9]*' file | sort | uniq -c | sort -rn | sed -n 1,5p | tr -s ' '
grep -n 'word500 ' file | tail -3
grep -E '^[0-9]*7 .*(quick|slow).* [0-9a-f]*f fox' file | digest
seq 1 300 | sed 's/.*/word&00/' > patterns
grep -cF -f patterns file
grep -c -e '' -e 'nothing' file
printf 'a\0b\n' | grep -c -a b
dd status=none if=file bs=1000 count=2000 | tr -d '\n' | grep -c fox
mkdir -p tree/of/folders
for i in $(seq 1 50); do head -n $((i * 10)) file > "tree/of/folders/$i"; done
grep -rl 'word4' tree | sort | digest
grep -c 'no such word' file || echo "none, and status $?"
