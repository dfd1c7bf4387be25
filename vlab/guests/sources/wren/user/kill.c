/* kill: ends processes. */
#include "user.h"

int main(int count, char **arguments)
{
    int status = 0;
    for (int i = 1; i < count; i++)
        if (kill(number(arguments[i])) < 0) {
            fprintf(2, "kill: there is no process %s\n", arguments[i]);
            status = 1;
        }
    return status;
}
