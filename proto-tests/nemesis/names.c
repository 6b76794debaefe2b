/* Preloaded into a process, answers its questions for addresses: the file $NAMES, read anew at each of them, has a line for
   each name, with its addresses behind it. What is not in there is looked up as ever. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef int lookup(const char *, const char *, const struct addrinfo *, struct addrinfo **);

int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints, struct addrinfo **found) {
    static lookup *real;
    if (!real) {
        real = (lookup *)dlsym(RTLD_NEXT, "getaddrinfo");
    }
    const char *path = getenv("NAMES");
    FILE *names = path && node ? fopen(path, "r") : NULL;
    char line[512];
    while (names && fgets(line, sizeof line, names)) {
        char *rest, *name = strtok_r(line, " \n", &rest);
        if (!name || strcmp(name, node)) {
            continue;
        }
        struct addrinfo **end = found;
        *end = NULL;
        for (char *address; (address = strtok_r(NULL, " \n", &rest));) {
            int outcome = real(address, service, hints, end);
            if (outcome) {
                fclose(names);
                return outcome;
            }
            /* glibc frees such a list entry by entry. */
            while (*end) {
                end = &(*end)->ai_next;
            }
        }
        fclose(names);
        return *found ? 0 : EAI_NONAME;
    }
    if (names) {
        fclose(names);
    }
    return real(node, service, hints, found);
}
