/* Reads one number a line, parses it and prints it back, or "refused: REASON"; for test_phone_oracle.py. */
#include <stdio.h>
#include <string.h>

#include "hashing/phone.h"

int main(void)
{
    char line[256];
    while (fgets(line, sizeof line, stdin) != NULL) {
        uint64_t key;
        char text[PHONE_TEXT_BYTES];
        enum phone_error error = phone_parse(line, strcspn(line, "\n"), &key);
        if (error == PHONE_OK) {
            phone_format(key, text);
            puts(text);
        } else {
            printf("refused: %s\n", phone_error_text(error));
        }
    }
    return 0;
}
