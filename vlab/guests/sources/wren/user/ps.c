/* ps: the processes. */
#include "user.h"

int main(int count, char **arguments)
{
    struct process_info info;
    (void)count, (void)arguments;
    printf("  PID PARENT NAME\n");
    for (int n = 0; process_info(n, &info) == 0; n++)
        if (info.name[0])
            printf("%5d %6d %s\n", info.pid, info.parent, info.name);
    return 0;
}
