declare -a list
declare -A table
for ((i = 0; i < 4000 * SCALE; i++)); do
    list[i]="element $i of the list"
    table["key $((i % 500))"]+="$i,"
done
printf '%s\n' "${list[@]}" | digest
for key in "${!table[@]}"; do printf '%s=%s\n' "$key" "${table[$key]}"; done | sort | digest
text=""
for ((i = 0; i < 2000 * SCALE; i++)); do text="$text$i "; done
echo "${#text} ${text//1/one}" | digest
sum=0
for ((i = 0; i < 60 * SCALE; i++)); do
    sum=$((sum + $(echo "$i" | cat | (read -r number; echo $((number * 2))))))
done
echo "sum $sum"
for ((i = 0; i < 20 * SCALE; i++)); do (
    expect_loaded "$BASHPID"
    words=($(seq 1 200))
    unset 'words[3]'
    echo "${#words[@]}" > "part.$i"
) & done
wait
cat part.* | sort | uniq -c | tr -s ' '
mapfile -t lines < <(seq 1 $((3000 * SCALE)))
echo "${#lines[@]} ${lines[-1]}"
coproc doubles { while read -r number; do echo $((number * 2)); done; }
for number in 1 20 300; do
    echo "$number" >&"${doubles[1]}"
    read -r answer <&"${doubles[0]}"
    echo "$answer"
done
function depth() { [ "$1" -eq 0 ] && echo deep || depth $(($1 - 1)); }
depth 300
trap 'echo interrupted' USR1
kill -USR1 $$
[[ "a long line with the number 4711 in it" =~ ([0-9]+) ]] && echo "${BASH_REMATCH[1]}"
