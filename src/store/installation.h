/*
 * installation.h
 *		When the extension was created in this database.
 */
#ifndef COORD_STORE_INSTALLATION_H
#define COORD_STORE_INSTALLATION_H

#include "utils/timestamp.h"

extern TimestampTz store_installed_at(void);

#endif							/* COORD_STORE_INSTALLATION_H */
