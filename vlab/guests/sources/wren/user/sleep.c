/* sleep: does nothing for so many hundredths of a second. */
#include "user.h"

int main(int count, char **arguments)
{
    int length = count == 2 ? number(arguments[1]) : -1;
    if (length < 0) {
        fprintf(2, "sleep: how many hundredths of a second?\n");
        return 1;
    }
    return sleep((unsigned)length) < 0;
}
