/* api.h: the table of include/bursar.h, and how C code finds it. */
#ifndef BURSAR_PYEXT_API_H
#define BURSAR_PYEXT_API_H

/* Makes the table known to dlsym: Python loads extensions each for itself.  Once.  Class N. */
void bursar_api_publish(void);

#endif
