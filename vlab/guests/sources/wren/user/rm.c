/* rm: removes files. */
#include "user.h"

int main(int count, char **arguments)
{
    int status = 0;
    for (int i = 1; i < count; i++) {
        int result = unlink(arguments[i]);
        if (result < 0) {
            fprintf(2, "rm: %s %s\n", arguments[i], result == E_READ_ONLY ? "cannot be removed" : "is not there");
            status = 1;
        }
    }
    return status;
}
