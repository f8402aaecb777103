/*
 * installation.h
 *		When the extension was created in this database, and how far its tokens are.
 */
#ifndef COORD_STORE_INSTALLATION_H
#define COORD_STORE_INSTALLATION_H

#include "utils/timestamp.h"

extern TimestampTz store_installed_at(void);
extern int64 store_last_fencing_token(void);

#endif							/* COORD_STORE_INSTALLATION_H */
