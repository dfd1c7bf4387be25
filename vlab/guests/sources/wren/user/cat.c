/* cat: copies files, or its input, to its output. */
#include "user.h"

static int copy(int fd)
{
    char text[256];
    int size;
    while ((size = read(fd, text, sizeof text)) > 0)
        if (write(1, text, (unsigned)size) != size)
            return 1;
    return size != 0;
}

int main(int count, char **arguments)
{
    int status = count == 1 ? copy(0) : 0;
    for (int i = 1; i < count; i++) {
        int fd = open(arguments[i], OPEN_READ);
        if (fd < 0) {
            fprintf(2, "cat: there is no file %s\n", arguments[i]);
            status = 1;
            continue;
        }
        status |= copy(fd);
        close(fd);
    }
    return status;
}
