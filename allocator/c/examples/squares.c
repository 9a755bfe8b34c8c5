/* Blocks of the private heap, and what the heap says of itself.
 *
 * cc squares.c $(pkg-config --cflags --libs tierpool) -o squares
 */
#include <stdio.h>
#include <stdlib.h>
#include <tierpool.h>

int main(void)
{
    size_t count = 1000000;
    unsigned long *squares = malloc(count * sizeof *squares);
    if (squares == NULL) {
        perror("malloc");
        return 1;
    }
    for (size_t n = 0; n < count; n++) {
        squares[n] = n * n;
    }

    struct tierpool_private_stats stats;
    if (tierpool_private_stats(&stats, sizeof stats) != 0) {
        return 1;
    }
    printf("tierpool %s: %lu, in one of %zu large blocks\n", tierpool_version(), squares[999],
           stats.runs);
    free(squares);
    return 0;
}
