/* getauxval(3), which glibc has since 2.16, for older ones: Rust's standard library calls it. The kernel's
   vector is read from proc(5), where every kernel since 2.6.0 has it. */
#include <fcntl.h>
#include <unistd.h>

unsigned long getauxval(unsigned long type)
{
    unsigned long entry[2], value = 0;
    int file = open("/proc/self/auxv", O_RDONLY | O_CLOEXEC);

    if (file < 0)
        return 0;
    /* AT_NULL (0) is the last. */
    while (read(file, entry, sizeof entry) == sizeof entry && entry[0] != 0) {
        if (entry[0] == type) {
            value = entry[1];
            break;
        }
    }
    close(file);
    return value;
}
