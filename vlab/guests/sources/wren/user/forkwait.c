/* forkwait: makes children that do nothing, one after the other, and waits for each: a measure of fork, of the page
 * tables behind it, of exit and wait (after Adams and Agesen, ASPLOS 2006). */
#include "user.h"

int main(int count, char **arguments)
{
    int rounds = count == 2 ? number(arguments[1]) : 40;
    for (int i = 0; i < rounds; i++) {
        int pid = fork();
        if (pid == 0)
            exit(0);
        if (pid < 0 || wait(0) != pid) {
            printf("forkwait: failed in round %d\n", i);
            return 1;
        }
    }
    printf("forkwait: %d children\n", rounds);
    return 0;
}
