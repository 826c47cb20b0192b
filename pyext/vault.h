/* vault.h: secrets as Python has them: SecretBytes over a slot of the vault, and what brings one in without a copy.
 *
 * GIL, any interpreter.  Class N. */
#ifndef BURSAR_PYEXT_VAULT_H
#define BURSAR_PYEXT_VAULT_H

#include "compat.h"

/* Adds the types and functions to the module.  0, or -1 with an error set. */
int bursar_vault_add(PyObject *module);

#endif
