lines=$((500 * SCALE))
{
    echo '#include <stdio.h>'
    for ((i = 0; i < lines / 4; i++)); do
        echo "__attribute__((noinline)) static unsigned f$i(unsigned x) { unsigned s = $i;"
        echo "    for (unsigned k = 0; k < (x & 15); k++) s = s * 31 + (x ^ k) % $((i + 7));"
        echo "    return s > $((i * 3)) ? s - x : s + x * $((i % 13)); }"
    done
    echo 'int main(void) { unsigned s = 1;'
    for ((i = 0; i < lines / 4; i++)); do echo "    s += f$i(s);"; done
    echo '    printf("%u\n", s); return 0; }'
} > generated.c
wc -l < generated.c
cc -O2 -g -c -o generated.o generated.c
digest < generated.o
cc -o generated generated.o
./generated
cc -O3 -flto -o lto generated.c
./lto
cat > templates.cc <<'END'
#include <algorithm>
#include <iostream>
#include <map>
#include <regex>
#include <string>
#include <tuple>
#include <variant>
#include <vector>
template <int N> struct Fib {
    static constexpr long value = Fib<N - 1>::value + Fib<N - 2>::value;
};
template <> struct Fib<1> { static constexpr long value = 1; };
template <> struct Fib<0> { static constexpr long value = 0; };
template <int N> std::map<int, std::vector<std::string>> tables() {
    auto rest = tables<N - 1>();
    rest[N].push_back(std::to_string(Fib<N>::value));
    return rest;
}
template <> std::map<int, std::vector<std::string>> tables<0>() { return {}; }
int main() {
    for (auto &[number, words] : tables<60>()) std::cout << number << words.front() << ' ';
    std::variant<int, std::string, std::tuple<long, double>> v = std::string("text");
    std::regex numbers("([a-z]+)([0-9]*)");
    std::smatch found;
    std::string text = std::get<std::string>(v) + "42";
    std::cout << std::regex_match(text, found, numbers) << found[2] << '\n';
}
END
c++ -std=c++17 -O2 -o templates templates.cc
./templates
for example in "$TREE"/allocator/c/examples/*.c; do
    # With another library than Tierpool's there is nothing to link them with.
    [ -e "$example" ] && [ "${LIBRARY##*/}" = libtierpool.so ] || continue
    cc -I "$TREE/allocator/c/include" -o example "$example" "$LIBRARY" \
        -Wl,-rpath,"$(dirname "$LIBRARY")" -pthread
    case "${example##*/}" in
        # It needs a daemon: the tests of heaps from C run it.
        shared_list.c) echo "shared_list.c compiles" ;;
        *)
            ./example > example.out
            echo "$(basename "$example") runs"
            ;;
    esac
done
