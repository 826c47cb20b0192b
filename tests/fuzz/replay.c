/* Runs the fuzz target over every file of a folder, each also as a running and as a scribbled ledger: an ordinary test. */
#include <dirent.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int replay(int folder, const char *name) {
  struct stat st;
  int fd = openat(folder, name, O_RDONLY | O_CLOEXEC);
  if (fd < 0 || fstat(fd, &st) != 0 || !S_ISREG(st.st_mode)) {
    if (fd >= 0)
      close(fd);
    return 0;
  }
  uint8_t *data = malloc((size_t)st.st_size + 1);
  if (!data || read(fd, data, (size_t)st.st_size) != st.st_size)
    abort();
  close(fd);
  LLVMFuzzerTestOneInput(data, (size_t)st.st_size);
  for (uint8_t flags = 0; flags < 4 && st.st_size; flags++) {
    data[0] = flags;
    LLVMFuzzerTestOneInput(data, (size_t)st.st_size);
  }
  free(data);
  return 1;
}

int main(int argc, char **argv) {
  int files = 0;
  DIR *folder = argc == 2 ? opendir(argv[1]) : NULL;
  if (!folder) {
    fprintf(stderr, "usage: replay_reader FOLDER\n");
    return 2;
  }
  for (struct dirent *entry; (entry = readdir(folder));)
    files += replay(dirfd(folder), entry->d_name);
  closedir(folder);
  printf("%d files replayed\n", files);
  return files ? 0 : 1; /* an empty corpus proves nothing */
}
