/* wc: counts the lines, words and characters of its input. */
#include "user.h"

int main(int count, char **arguments)
{
    char text[256];
    int size, lines = 0, words = 0, characters = 0;
    bool inside = false;
    (void)count, (void)arguments;
    while ((size = read(0, text, sizeof text)) > 0) {
        characters += size;
        for (int i = 0; i < size; i++) {
            bool space = text[i] == ' ' || text[i] == '\n' || text[i] == '\t';
            lines += text[i] == '\n';
            words += inside && space;
            inside = !space;
        }
    }
    printf("%d %d %d\n", lines, words + inside, characters);
    return 0;
}
