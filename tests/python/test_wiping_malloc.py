"""Programs without Python under `run --wipe`: what malloc gives back is zeroed, what is kept is kept."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from running import Run

DRIVER = r"""
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
static int dirty(const unsigned char *p, size_t from, size_t to) {
  int n = 0;
  for (size_t i = from; i < to; i++) n += p[i] == 0xC3;
  return n;
}
/* What a freed chunk's own links take up. */
#define LINKS 32
static void *keep[64]; /* neighbours: no chunk is merged with the top */
static int count;
static void freed(const char *what, void *p, size_t size) {
  keep[count++ % 64] = malloc(24);
  memset(p, 0xC3, size);
  free(p);
  printf("%s %d\n", what, dirty(p, LINKS, size - 16));
}
int main(void) {
  void *p = NULL;
  freed("malloc", malloc(1000), 1000);
  freed("calloc", calloc(10, 100), 1000);
  freed("large", malloc(100000), 100000);
  if (posix_memalign(&p, 256, 2000) == 0) freed("posix_memalign", p, 2000);
  freed("aligned_alloc", aligned_alloc(64, 1024), 1024);
  freed("memalign", memalign(128, 3000), 3000);
  unsigned char *q = malloc(5000);
  keep[count++ % 64] = malloc(6000); /* beside it: it cannot grow where it is */
  memset(q, 0xC3, 5000);
  unsigned char *moved = realloc(q, 20000);
  printf("moved %d %d %d\n", moved != q, dirty(q, LINKS, 4900), dirty(moved, 0, 5000));
  unsigned char *shrunk = realloc(moved, 1000);
  printf("shrunk %d %d\n", dirty(shrunk, 0, 1000), dirty(moved, 1000 + LINKS, 5000));
  unsigned char *more = reallocarray(shrunk, 500, 10);
  printf("reallocarray %d\n", dirty(more, 0, 1000));
  unsigned char *map = malloc(3 << 20);
  memset(map, 0xC3, 3 << 20);
  map = realloc(map, 5 << 20);
  printf("mapped %d\n", dirty(map, 0, 5 << 20));
  printf("none %d\n", realloc(more, 0) == NULL);
  int places = 0, lost = 0;
  unsigned char *grows = malloc(5000); /* where there is room behind it it stays, and is as it was */
  memset(grows, 0xC3, 5000);
  for (size_t size = 5000; size < 2000000; size += size / 8) {
    unsigned char *before = grows;
    grows = realloc(grows, size + size / 8);
    places += grows != before;
    lost += dirty(grows, 0, 5000) != 5000;
  }
  printf("grown %d %d\n", places < 25, lost);
  return 0;
}
"""
KEPT = {
    "moved": "1 0 5000",
    "shrunk": "1000 0",
    "reallocarray": "1000",
    "mapped": str(3 << 20),
    "none": "1",
    "grown": "1 0",
}


def test_malloc_and_its_family(execute: Run, command: str, tmp_path: Path) -> None:
    compiler = shutil.which(os.environ.get("CC", "cc"))
    if not compiler:
        pytest.skip("no compiler to build the program with: install gcc")
    (tmp_path / "driver.c").write_text(DRIVER)
    flags = ["-O0", "-fno-builtin", "-D_GNU_SOURCE", "-w"]
    subprocess.run([compiler, *flags, "-o", "driver", "driver.c"], cwd=tmp_path, check=True)

    def lines(*run: str) -> dict[str, str]:
        done = execute(*run, "./driver")
        assert done.returncode == 0
        return {name: rest for name, _, rest in (line.partition(" ") for line in done.stdout.splitlines())}

    wiped, plain = lines(command, "run", "--wipe", "--"), lines("env")
    freed = ["malloc", "calloc", "large", "posix_memalign", "aligned_alloc", "memalign"]
    assert wiped == dict.fromkeys(freed, "0") | KEPT
    assert all(int(plain[name]) > 500 for name in freed)
    assert (
        plain.items() & KEPT.items()
        == {"reallocarray": "1000", "mapped": KEPT["mapped"], "none": "1", "grown": "1 0"}.items()
    )


STRESS = r"""
#include <malloc.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#define SLOTS 64
#define ROUNDS 60000
static uint64_t next(uint64_t *seed) { return *seed = *seed * 6364136223846793005u + 1442695040888963407u; }
static size_t a_size(uint64_t dice) {
  size_t most = dice % 100 < 90 ? 2000 : dice % 100 < 99 ? 100000 : 1000000;
  return (dice >> 20) % most + 1;
}
static void fill(unsigned char *p, size_t from, size_t to, unsigned char key) {
  for (size_t i = from; i < to; i++) p[i] = (unsigned char)(i * 31 + key);
}
static int holds(const unsigned char *p, size_t to, unsigned char key) {
  for (size_t i = 0; i < to; i++) if (p[i] != (unsigned char)(i * 31 + key)) return 0;
  return 1;
}
static void *work(void *number) {
  struct { unsigned char *p; size_t size; unsigned char key; } slots[SLOTS] = {0};
  uint64_t seed = (uintptr_t)number + 1;
  size_t wrong = 0;
  for (int round = 0; round < ROUNDS; round++) {
    uint64_t dice = next(&seed) >> 8;
    unsigned at = dice % SLOTS;
    size_t size = a_size(next(&seed) >> 8), old = slots[at].size;
    unsigned char *p = slots[at].p;
    wrong += p && !holds(p, old, slots[at].key);
    if (p && dice >> 10 & 1) {
      p = realloc(p, size);
      wrong += !p || !holds(p, old < size ? old : size, slots[at].key);
      fill(p, 0, size, slots[at].key);
    } else {
      free(p);
      unsigned char key = (unsigned char)(dice >> 16);
      p = dice >> 12 & 1 ? malloc(size) : dice >> 13 & 1 ? calloc(1, size) : aligned_alloc(64, (size + 63) / 64 * 64);
      fill(p, 0, size, key);
      slots[at].key = key;
    }
    slots[at].p = p;
    slots[at].size = size;
  }
  return (void *)wrong;
}
int main(void) {
  pthread_t threads[4];
  size_t all = 0;
  for (uintptr_t i = 0; i < 4; i++) if (pthread_create(&threads[i], NULL, work, (void *)i)) return 2;
  for (int i = 0; i < 4; i++) { void *wrong; pthread_join(threads[i], &wrong); all += (size_t)wrong; }
  printf("%zu\n", all);
  return all != 0;
}
"""


@pytest.mark.parametrize("tunables", ["", "glibc.malloc.mmap_threshold=4096", "glibc.malloc.tcache_count=0"])
def test_what_is_resized_keeps_its_contents(execute: Run, command: str, tmp_path: Path, tunables: str) -> None:
    compiler = shutil.which(os.environ.get("CC", "cc"))
    if not compiler:
        pytest.skip("no compiler to build the program with: install gcc")
    (tmp_path / "stress.c").write_text(STRESS)
    subprocess.run([compiler, "-O2", "-w", "-pthread", "-o", "stress", "stress.c"], cwd=tmp_path, check=True)
    done = execute(command, "run", "--wipe", "--", "./stress", env={"GLIBC_TUNABLES": tunables})
    assert (done.returncode, done.stdout) == (0, "0\n"), done.stderr


UNTOUCHED = r"""
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
static long faults(void) { struct rusage now; getrusage(RUSAGE_SELF, &now); return now.ru_minflt; }
int main(void) {
  mallopt(M_MMAP_THRESHOLD, 256 << 20);
  mallopt(M_TRIM_THRESHOLD, 1 << 30);
  unsigned char *p = malloc(64 << 20), *end = malloc(5000);
  memset(p + (10 << 20) + 100, 0xC3, 1 << 20);
  memset(p + (63 << 20), 0xC3, 5000);
  long before = faults();
  free(p);
  long more = faults() - before, left = 0;
  for (long i = 10 << 20; i < 12 << 20; i++) left += p[i] != 0;
  for (long i = 63 << 20; i < (63 << 20) + 5000; i++) left += p[i] != 0;
  printf("%d %ld\n", more < 50, left);
  return end == NULL;
}
"""


def test_what_was_never_touched_is_not_brought_into_memory(execute: Run, command: str, tmp_path: Path) -> None:
    compiler = shutil.which(os.environ.get("CC", "cc"))
    if not compiler:
        pytest.skip("no compiler to build the program with: install gcc")
    (tmp_path / "untouched.c").write_text(UNTOUCHED)
    flags = ["-O0", "-fno-builtin", "-D_GNU_SOURCE", "-w"]
    subprocess.run([compiler, *flags, "-o", "untouched", "untouched.c"], cwd=tmp_path, check=True)
    assert execute(command, "run", "--wipe", "--", "./untouched").stdout == "1 0\n"
