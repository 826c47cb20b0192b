#include "model/allowed.h"

#include <string.h>

#include "model/pandas.h"

/* A star stands for letters, digits and _, one or more. */
static const char *const makers[] = {"builtins.complex",
                                     "builtins.bytearray",
                                     "builtins.range",
                                     "builtins.slice",
                                     "collections.Counter",
                                     "collections.OrderedDict",
                                     "collections.defaultdict",
                                     "collections.deque",
                                     "datetime.date",
                                     "datetime.datetime",
                                     "datetime.time",
                                     "datetime.timedelta",
                                     "datetime.timezone",
                                     "decimal.Decimal",
                                     "fractions.Fraction",
                                     "uuid.UUID",
                                     "numpy.random._pickle.__bit_generator_ctor",
                                     "numpy.random._pickle.__generator_ctor",
                                     "numpy.random._pickle.__randomstate_ctor",
                                     "numpy.random.bit_generator.SeedSequence",
                                     "numpy.random._mt19937.MT19937",
                                     "numpy.random._pcg64.PCG64",
                                     "numpy.random._pcg64.PCG64DXSM",
                                     "numpy.random._philox.Philox",
                                     "numpy.random._sfc64.SFC64",
                                     "numpy.random.bit_generator.__pyx_unpickle_SeedSequence",
                                     "scipy._lib.array_api_compat.numpy._aliases.asarray",
                                     "scipy.interpolate._bsplines.BSpline",
                                     "scipy.interpolate._bsplines._BSpline", /* what one has inside, since SciPy 1.18 */
                                     "sklearn.tree._tree.Tree",
                                     "sklearn.utils._bunch.Bunch",
                                     "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
                                     "sklearn.neighbors._kd_tree.newObj",
                                     "sklearn.neighbors._ball_tree.newObj",
                                     "sklearn.metrics._dist_metrics.newObj",
                                     "torch.device",
                                     "torch.Size",
                                     "scipy.sparse._*.bsr_matrix",
                                     "scipy.sparse._*.coo_matrix",
                                     "scipy.sparse._*.csc_matrix",
                                     "scipy.sparse._*.csr_matrix",
                                     "scipy.sparse._*.dia_matrix",
                                     "scipy.sparse._*.dok_matrix",
                                     "scipy.sparse._*.lil_matrix",
                                     "scipy.sparse._*.bsr_array",
                                     "scipy.sparse._*.coo_array",
                                     "scipy.sparse._*.csc_array",
                                     "scipy.sparse._*.csr_array",
                                     "scipy.sparse._*.dia_array",
                                     "scipy.sparse._*.dok_array",
                                     "scipy.sparse._*.lil_array",
                                     "sklearn._loss._loss.Cy*",
                                     "sklearn._loss.loss.*",
                                     "sklearn._loss.link.*",
                                     "sklearn.metrics._dist_metrics.*Distance",
                                     "sklearn.metrics._dist_metrics.*Distance32",
                                     "sklearn.metrics._dist_metrics.*Distance64",
                                     "sklearn.neighbors._kd_tree.KDTree",
                                     "sklearn.neighbors._kd_tree.KDTree32",
                                     "sklearn.neighbors._kd_tree.KDTree64",
                                     "sklearn.neighbors._ball_tree.BallTree",
                                     "sklearn.neighbors._ball_tree.BallTree32",
                                     "sklearn.neighbors._ball_tree.BallTree64",
                                     "sklearn.gaussian_process.kernels.*",
                                     "sklearn.linear_model._sgd_fast.*",
                                     "sklearn.metrics._classification.*",
                                     "sklearn.metrics._ranking.*",
                                     "sklearn.metrics._regression.*",
                                     "sklearn.metrics._scorer.*",
                                     "sklearn.model_selection._split.*",
                                     "sklearn.neural_network._stochastic_optimizers.AdamOptimizer",
                                     "sklearn.neural_network._stochastic_optimizers.SGDOptimizer"};
static const char *const families[] = {"sklearn.", "torch.nn.modules."};

/* What is understood here and goes no further. */
static const char *const parts[] = {"numpy.ndarray",
                                    "numpy.memmap",
                                    "numpy.dtype",
                                    "numpy._core.multiarray._reconstruct",
                                    "numpy._core.multiarray.scalar",
                                    "numpy._core.numeric._frombuffer",
                                    "_codecs.encode",
                                    "copyreg._reconstructor",
                                    "joblib.numpy_pickle.NumpyArrayWrapper",
                                    "torch._utils._rebuild_tensor",
                                    "torch._utils._rebuild_tensor_v2",
                                    "torch._utils._rebuild_tensor_v3",
                                    "torch._utils._rebuild_parameter",
                                    "torch.FloatStorage",
                                    "torch.DoubleStorage",
                                    "torch.HalfStorage",
                                    "torch.BFloat16Storage",
                                    "torch.LongStorage",
                                    "torch.IntStorage",
                                    "torch.ShortStorage",
                                    "torch.CharStorage",
                                    "torch.ByteStorage",
                                    "torch.BoolStorage",
                                    "torch.ComplexFloatStorage",
                                    "torch.storage.UntypedStorage",
                                    "torch.UntypedStorage"};

struct kind {
  const char *prefix, *node;
  const char *names; /* between blanks */
};
static const struct kind kinds[] = {
    {"builtins.", "type", " bool bytes complex dict float frozenset int list object set str tuple "},
    {"numpy.", "numpy type",
     " bool bool_ int8 int16 int32 int64 intc intp longlong uint8 uint16 uint32 uint64 uintc uintp ulonglong float16 "
     "float32 float64 longdouble complex64 complex128 clongdouble str_ bytes_ datetime64 timedelta64 object_ void "
     "number integer signedinteger unsignedinteger inexact floating complexfloating generic "},
    {"numpy.", "ufunc",
     " absolute add arccos arccosh arcsin arcsinh arctan arctan2 arctanh bitwise_and bitwise_or bitwise_xor cbrt ceil "
     "conjugate copysign cos cosh deg2rad degrees divide equal exp exp2 expm1 fabs float_power floor floor_divide fmax "
     "fmin fmod greater greater_equal heaviside hypot invert isfinite isinf isnan less less_equal log log10 log1p log2 "
     "logaddexp logaddexp2 logical_and logical_not logical_or logical_xor maximum minimum mod modf multiply negative "
     "not_equal positive power rad2deg radians reciprocal remainder rint sign signbit sin sinh sqrt square subtract "
     "tan "
     "tanh true_divide trunc "},
    {"torch.", "torch dtype",
     " float32 float float64 double float16 half bfloat16 int8 uint8 int16 short int32 int int64 long uint16 uint32 "
     "uint64 bool complex64 cfloat complex128 float8_e4m3fn float8_e5m2 float8_e4m3fnuz float8_e5m2fnuz "
     "float8_e8m0fnu "}};

/* Modules by other names: of Python 2, and of libraries before they moved them. */
static const struct {
  const char *old, *now;
} moved[] = {{"__builtin__", "builtins"},
             {"copy_reg", "copyreg"},
             {"numpy.core.multiarray", "numpy._core.multiarray"},
             {"numpy.core.numeric", "numpy._core.numeric"},
             {"numpy.core._multiarray_umath", "numpy"},
             {"numpy._core._multiarray_umath", "numpy"},
             {"sklearn.externals.joblib.numpy_pickle", "joblib.numpy_pickle"},
             {"sklearn.ensemble.forest", "sklearn.ensemble._forest"},
             {"sklearn.ensemble.gradient_boosting", "sklearn.ensemble._gb"},
             {"sklearn.tree.tree", "sklearn.tree._classes"},
             {"sklearn.linear_model.base", "sklearn.linear_model._base"},
             {"sklearn.linear_model.logistic", "sklearn.linear_model._logistic"},
             {"sklearn.linear_model.ridge", "sklearn.linear_model._ridge"},
             {"sklearn.preprocessing.data", "sklearn.preprocessing._data"},
             {"sklearn.preprocessing.label", "sklearn.preprocessing._label"},
             {"sklearn.svm.classes", "sklearn.svm._classes"},
             {"sklearn.cluster.k_means_", "sklearn.cluster._kmeans"},
             {"sklearn.decomposition.pca", "sklearn.decomposition._pca"},
             {"sklearn.utils.bunch", "sklearn.utils._bunch"}};

static bool is(struct bursar_text text, const char *word) {
  return text.length == strlen(word) && memcmp(text.bytes, word, text.length) == 0;
}

static bool in_word(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
}

static bool starts(struct bursar_text text, const char *with) {
  return text.length >= strlen(with) && memcmp(text.bytes, with, strlen(with)) == 0;
}

/* One star at most, as the list has them. */
static bool matches(struct bursar_text text, const char *pattern) {
  const char *star = strchr(pattern, '*');
  if (!star)
    return is(text, pattern);
  size_t head = (size_t)(star - pattern), tail = strlen(star + 1);
  if (text.length <= head + tail || memcmp(text.bytes, pattern, head) != 0 ||
      memcmp(text.bytes + text.length - tail, star + 1, tail) != 0)
    return false;
  for (size_t i = head; i < text.length - tail; i++)
    if (!in_word(text.bytes[i]))
      return false;
  return true;
}

/* As libraries call modules and classes: module._module.Class. */
static bool is_of_class(struct bursar_text name) {
  size_t word = 0;
  for (size_t i = 0; i < name.length; i++) {
    if (name.bytes[i] == '.') {
      char first = name.bytes[word];
      if (i == word || !((first >= 'a' && first <= 'z') || first == '_'))
        return false;
      word = i + 1;
    } else if (!in_word(name.bytes[i])) {
      return false;
    }
  }
  while (word < name.length && name.bytes[word] == '_')
    word++;
  return word && word < name.length && name.bytes[word] >= 'A' && name.bytes[word] <= 'Z';
}

bool bursar_allowed_name(struct bursar_text module, struct bursar_text name, char out[BURSAR_ALLOWED_NAME]) {
  for (size_t i = 0; i < sizeof moved / sizeof *moved; i++)
    if (is(module, moved[i].old)) {
      module = (struct bursar_text){moved[i].now, (uint32_t)strlen(moved[i].now)};
      break;
    }
  if (is(module, "builtins")) /* of Python 2 */
    name = is(name, "xrange")    ? (struct bursar_text){"range", 5}
           : is(name, "unicode") ? (struct bursar_text){"str", 3}
           : is(name, "long")    ? (struct bursar_text){"int", 3}
                                 : name;
  if (!module.length || !name.length || (size_t)module.length + name.length + 2 > BURSAR_ALLOWED_NAME ||
      memchr(module.bytes, 0, module.length) || memchr(name.bytes, 0, name.length))
    return false;
  memcpy(out, module.bytes, module.length);
  out[module.length] = '.';
  memcpy(out + module.length + 1, name.bytes, name.length);
  out[module.length + 1 + name.length] = 0;
  return true;
}

bool bursar_allowed_makes(struct bursar_text name, struct bursar_allowed_more more) {
  for (size_t i = 0; i < more.count; i++)
    if (is(name, more.names[i]))
      return true;
  for (size_t i = 0; i < sizeof makers / sizeof *makers; i++)
    if (matches(name, makers[i]))
      return true;
  for (size_t i = 0; i < sizeof families / sizeof *families; i++)
    if (starts(name, families[i]) && is_of_class(name))
      return true;
  return false;
}

const char *bursar_allowed_kind(struct bursar_text name, struct bursar_text *shown) {
  for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
    size_t prefix = strlen(kinds[i].prefix);
    if (!starts(name, kinds[i].prefix))
      continue;
    *shown = (struct bursar_text){name.bytes + prefix, name.length - (uint32_t)prefix};
    for (const char *at = strchr(kinds[i].names, ' '); shown->length && at && at[1]; at = strchr(at + 1, ' '))
      if (strncmp(at + 1, shown->bytes, shown->length) == 0 && at[1 + shown->length] == ' ')
        return kinds[i].node;
  }
  return NULL;
}

bool bursar_allowed_known(struct bursar_text name, struct bursar_allowed_more more) {
  struct bursar_text shown;
  for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
    if (is(name, parts[i]))
      return true;
  return bursar_allowed_kind(name, &shown) || bursar_pandas_knows(name) || bursar_allowed_makes(name, more);
}
