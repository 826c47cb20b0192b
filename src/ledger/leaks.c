#include "ledger/leaks.h"

#include <math.h>

/* A stretch of the series: point `first` and those after it, each `step`-th.  Values are differences to the first. */
struct stretch {
  const struct bursar_leaks_point *points;
  uint32_t first, last, step;
  enum bursar_leaks_what what;
};

#define LEVELS 2u   /* blocks are taken as they are, and by twos */
#define STARTS 250u /* the first place where a later half may begin: the k-th is at this times 2^(k/4) */

double bursar_leaks_of(const struct bursar_leaks_point *point, enum bursar_leaks_what what) {
  switch (what) {
    case BURSAR_LEAKS_OF_DESCRIPTORS: return point->descriptors;
    case BURSAR_LEAKS_OF_THREADS: return point->threads;
    case BURSAR_LEAKS_OF_CAPPED: return (double)point->capped;
    default: return (double)point->bytes;
  }
}
static bool always_known(enum bursar_leaks_what what) {
  return what == BURSAR_LEAKS_OF_BYTES || what == BURSAR_LEAKS_OF_CAPPED;
}

/* --- the bound --------------------------------------------------------------------------------------------------------- */

/* The logarithm of a mean of two normal mixtures exp(S^2 / 2(V + r)) / sqrt(1 + V / r), where S is the sum and V that of the
 * squares of what the blocks grew beyond `rate` a call.  Where that is symmetric, and not above `rate`, whatever its tails, the
 * mean is at most 1 on average, and all its life below 1/a but with probability a. */
static double mixed(double sum, double squares, double r) {
  return sum * sum / (2 * (squares + r)) - 0.5 * log1p(squares / r);
}

struct sums {
  double sum, squares;
};

/* Of what each block grew beyond `rate` a call.  Where more than `most` counts as so much, in either direction, what is symmetric
 * stays so: then one table that doubles does not hide what grows beside it. */
static struct sums beyond(const struct stretch *s, double rate, double most) {
  struct sums out = {0, 0};
  double before = bursar_leaks_of(&s->points[s->first], s->what);
  uint64_t calls = s->points[s->first].calls;
  for (uint32_t i = s->first + s->step; i <= s->last; i += s->step) {
    const struct bursar_leaks_point *point = &s->points[i];
    double grown = bursar_leaks_of(point, s->what) - before - rate * (double)(point->calls - calls);
    before = bursar_leaks_of(point, s->what);
    calls = point->calls;
    grown = fmin(fmax(grown, -most), most);
    out.sum += grown;
    out.squares += grown * grown;
  }
  return out;
}

/* What is known of the scale before the stretch begins: of a block of the threshold's growth, of the blocks before, and from where
 * on one counts as no more. */
struct scales {
  double small, large, most;
};

/* Against a rate so low (`above`), or so high. */
static double evidence(const struct stretch *s, const struct scales *scales, double rate, bool above) {
  struct sums of = beyond(s, rate, above ? scales->most : INFINITY);
  if (above ? of.sum <= 0 : of.sum >= 0)
    return 0;
  double a = mixed(of.sum, of.squares, scales->small), b = mixed(of.sum, of.squares, scales->large);
  double most = fmax(a, b);
  return most + log((exp(a - most) + exp(b - most)) / 2);
}

static double middle(double *values, uint32_t count) {
  for (uint32_t i = 1; i < count; i++) {
    double moved = values[i];
    uint32_t at = i;
    for (; at > 0 && values[at - 1] > moved; at--)
      values[at] = values[at - 1];
    values[at] = moved;
  }
  return count ? values[count / 2] : 0;
}

static struct scales scales_of(const struct stretch *s, double threshold) {
  double sizes[BURSAR_LEAKS_POINTS],
      block = threshold * (double)(s->points[s->first + s->step].calls - s->points[s->first].calls);
  uint32_t count = 0;
  for (uint32_t i = 0; i + s->step <= s->first; i += s->step) {
    const struct bursar_leaks_point *from = &s->points[i], *to = &s->points[i + s->step];
    sizes[count++] = fabs(bursar_leaks_of(to, s->what) - bursar_leaks_of(from, s->what) -
                          threshold * (double)(to->calls - from->calls));
  }
  double usual = fmax(middle(sizes, count), block);
  return (struct scales){.small = block * block, .large = usual * usual, .most = 4 * usual};
}

/* The rate where the evidence against it reaches `enough`, between `inside`, where it does not, and far away below, or above. */
static double edge(const struct stretch *s, const struct scales *scales, double inside, bool below, double step,
                   double enough) {
  double near = inside, far = inside;
  for (int i = 0; i < 60; i++, step *= 2) {
    far = below ? inside - step : inside + step;
    if (evidence(s, scales, far, below) >= enough)
      break;
    near = far;
  }
  if (evidence(s, scales, far, below) < enough)
    return below ? -INFINITY : INFINITY;
  for (int i = 0; i < 40; i++) {
    double half = (near + far) / 2;
    if (evidence(s, scales, half, below) >= enough)
      far = half;
    else
      near = half;
  }
  return far;
}

struct bound {
  double lower, upper;
  bool above, below; /* the threshold, for sure */
};

/* What all levels together say, each with its share of the error. */
static struct bound bound_of(struct stretch s, double threshold, double error, bool wanted) {
  struct bound out = {-INFINITY, INFINITY, false, false};
  double enough = log(2 * LEVELS / error);
  const uint32_t last = s.last;
  for (uint32_t level = 0; level < LEVELS; level++, s.step *= 2) {
    /* Blocks are counted from the beginning, which stays: what is left over at the end waits for its block to be whole. */
    uint32_t blocks = (last - s.first) / s.step;
    s.last = s.first + blocks * s.step;
    if (blocks < 2)
      break;
    struct scales scales = scales_of(&s, threshold);
    out.above = out.above || evidence(&s, &scales, threshold, true) >= enough;
    out.below = out.below || evidence(&s, &scales, threshold, false) >= enough;
    if (!wanted)
      continue;
    double calls = (double)(s.points[s.last].calls - s.points[s.first].calls);
    double mean = (bursar_leaks_of(&s.points[s.last], s.what) - bursar_leaks_of(&s.points[s.first], s.what)) / calls;
    out.lower = fmax(out.lower, edge(&s, &scales, mean, true, threshold / 16, enough));
    out.upper = fmin(out.upper, edge(&s, &scales, mean, false, threshold / 16, enough));
  }
  return out;
}

/* --- its shape --------------------------------------------------------------------------------------------------------- */

static uint32_t first_from(const struct bursar_leaks_point *points, uint32_t count, double calls) {
  uint32_t at = 0;
  while (at < count && (double)points[at].calls < calls)
    at++;
  return at;
}

static double rate_between(const struct stretch *s, uint32_t from, uint32_t to) {
  double calls = (double)(s->points[to].calls - s->points[from].calls);
  return calls > 0 ? (bursar_leaks_of(&s->points[to], s->what) - bursar_leaks_of(&s->points[from], s->what)) / calls
                   : 0;
}

/* Of the blocks of a part of the stretch, the middle one's growth a call. */
static double median_between(const struct stretch *s, uint32_t from, uint32_t to) {
  double rates[BURSAR_LEAKS_POINTS];
  uint32_t count = 0;
  for (uint32_t i = from; i < to; i++)
    rates[count++] = rate_between(s, i, i + 1);
  return middle(rates, count);
}

#define PARTS 8u

/* A leak goes on: through each eighth of the later half, not ever slower, and to more than was held in the quarter before. */
static bool goes_on(const struct stretch *s, double threshold) {
  const uint32_t blocks = s->last - s->first;
  uint64_t all = s->points[s->last].calls;
  double least = rate_between(s, s->first, s->last) / 4;
  if (blocks < 2 * PARTS)
    return false;
  for (uint32_t part = 0; part < PARTS; part++)
    if (rate_between(s, s->first + blocks * part / PARTS, s->first + blocks * (part + 1) / PARTS) < least)
      return false;
  double early = median_between(s, s->first, s->first + blocks / 3);
  double late = median_between(s, s->last - blocks / 3, s->last);
  if (early > threshold && late < early / 2)
    return false;
  double most = bursar_leaks_of(&s->points[s->first], s->what);
  for (uint32_t i = first_from(s->points, s->first, (double)all / 4); i < s->first; i++)
    most = fmax(most, bursar_leaks_of(&s->points[i], s->what));
  return bursar_leaks_of(&s->points[s->last], s->what) - most > threshold * (double)(all - s->points[s->first].calls);
}

/* Where calls are capped: all that is held has grown as well, since the least that was held in the quarter before.  Else more calls
 * hold something and each of them less, as in a cache of so many bytes. */
static bool sum_grows(const struct stretch *s, double threshold) {
  const struct bursar_leaks_point *from = &s->points[s->first], *to = &s->points[s->last];
  double least = (double)from->bytes;
  for (uint32_t i = first_from(s->points, s->first, (double)from->calls / 2); i < s->first; i++)
    least = fmin(least, (double)s->points[i].bytes);
  return (double)to->bytes - least > threshold * (double)(to->calls - from->calls);
}

/* How far it swings about the line from the first point of the stretch to the last, since half of where that begins: what goes
 * up and comes down again moves a rate by twice that over all calls, and no more. */
static double swing(const struct stretch *s) {
  const struct bursar_leaks_point *from = &s->points[s->first];
  double rate = rate_between(s, s->first, s->last), most = 0;
  for (uint32_t i = first_from(s->points, s->first, (double)from->calls / 2); i <= s->last; i++) {
    double calls = (double)s->points[i].calls - (double)from->calls;
    double off = bursar_leaks_of(&s->points[i], s->what) - bursar_leaks_of(from, s->what) -
                 (calls > 0 ? rate * calls : 0);
    most = fmax(most, fabs(off));
  }
  return 2 * most / (double)(s->points[s->last].calls - from->calls);
}

/* --- the verdict ------------------------------------------------------------------------------------------------------- */

/* Each place where a later half may begin has its share of the error, and so have the two ways its points may have been thinned. */
static double share(uint32_t start) {
  double k = start + 1;
  return BURSAR_LEAKS_ERROR * 0.6079271018540267 / (k * k) / 2; /* 6 / pi^2 */
}

/* Those at the end of which all is known; descriptors and threads may have been asked for later than blocks. */
static uint32_t known_ones(const struct bursar_leaks_point *points, uint32_t count, enum bursar_leaks_what what,
                           struct bursar_leaks_point *kept) {
  uint32_t have = 0;
  for (uint32_t i = 0; i < count; i++)
    if (bursar_leaks_of(&points[i], what) >= 0)
      kept[have++] = points[i];
  return have;
}

void bursar_leaks_judge(const struct bursar_leaks_point *points, uint32_t count, enum bursar_leaks_what what,
                        double threshold, uint64_t warmup, bool bounds, struct bursar_leaks_found *out) {
  struct bursar_leaks_point kept[BURSAR_LEAKS_POINTS];
  *out = (struct bursar_leaks_found){.lower = -INFINITY, .upper = INFINITY};
  if (count > BURSAR_LEAKS_POINTS)
    count = BURSAR_LEAKS_POINTS;
  if (!always_known(what)) {
    count = known_ones(points, count, what, kept);
    points = kept;
  }
  if (count < 3 || points[count - 1].calls < warmup || points[count - 1].calls < 2 * STARTS)
    return;
  double half = (double)points[count - 1].calls / 2, at = STARTS;
  uint32_t start = 0;
  while (at * 1.189207115002721 <= half) { /* 2^(1/4) */
    at *= 1.189207115002721;
    start++;
  }
  struct stretch s = {
      .points = points, .first = first_from(points, count, at), .last = count - 1, .step = 1, .what = what};
  if (s.first + 2 > s.last)
    return;
  struct bound bound = bound_of(s, threshold, share(start), bounds);
  out->known = true;
  out->rate = rate_between(&s, s.first, s.last);
  out->lower = bound.lower;
  out->upper = bound.upper;
  out->from = points[s.first].calls;
  out->to = points[s.last].calls;
  out->goes_on = goes_on(&s, threshold);
  out->grows = bound.above && out->goes_on && (what != BURSAR_LEAKS_OF_CAPPED || sum_grows(&s, threshold));
  if (s.first + 2 * PARTS <= s.last)
    out->upper = fmin(out->upper, fmax(out->rate, 0) + swing(&s));
  out->stands = bound.below || out->upper < threshold;
  s.first = first_from(points, count, half * 1.5);
  out->stopped = out->stands || (s.first + 8 <= s.last && bound_of(s, threshold, 0.01, false).below);
}

uint32_t bursar_leaks_thin(struct bursar_leaks_point *points, uint32_t count) {
  uint32_t kept = 0;
  for (uint32_t i = 1; i < count; i += 2)
    points[kept++] = points[i];
  return kept;
}
