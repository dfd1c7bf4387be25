/* echo: prints its arguments. */
#include "user.h"

int main(int count, char **arguments)
{
    for (int i = 1; i < count; i++)
        printf("%s%s", i > 1 ? " " : "", arguments[i]);
    printf("\n");
    return 0;
}
