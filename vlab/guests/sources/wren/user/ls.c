/* ls: the files, their sizes, and which can be written. */
#include "user.h"

int main(int count, char **arguments)
{
    struct file_info info;
    (void)count, (void)arguments;
    for (int n = 0; file_info(n, &info) == 0; n++)
        printf("%s %7u %s\n", info.writable ? "rw" : "r-", info.size, info.name);
    return 0;
}
