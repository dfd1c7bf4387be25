/* sum: reads a file from end to end, and prints its size and a checksum. */
#include "user.h"

int main(int count, char **arguments)
{
    static char text[4096];
    const char *name = count > 1 ? arguments[1] : "";
    uint32_t sum = 0;
    int fd = open(name, OPEN_READ), size, bytes = 0;
    if (fd < 0) {
        fprintf(2, "sum: there is no file %s\n", name);
        return 1;
    }
    while ((size = read(fd, text, sizeof text)) > 0) {
        bytes += size;
        for (int i = 0; i < size; i++)
            sum = sum * 31 + (uint8_t)text[i];
    }
    if (size < 0) {
        fprintf(2, "sum: %s cannot be read\n", name);
        return 1;
    }
    printf("sum: %s has %d bytes, %x\n", name, bytes, sum);
    return 0;
}
