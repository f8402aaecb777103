/*
 * coord.c
 *		Loading the library: settings, shared memory, hooks, the launcher.
 *		Nothing else is here; docs/internals.md says where to read on.
 */
#include "postgres.h"

#include "fmgr.h"
#include "miscadmin.h"
#include "utils/builtins.h"

#include "compat.h"
#include "coord.h"
#include "settings.h"
#include "worker/by_hand.h"
#include "worker/commands.h"
#include "worker/shared.h"
#include "worker/wakeup.h"
#include "worker/worker.h"

COORD_MODULE_MAGIC;

PG_FUNCTION_INFO_V1(coord_version);

extern PGDLLEXPORT void _PG_init(void);

void
_PG_init(void)
{
	coord_settings_define(process_shared_preload_libraries_in_progress);
	coord_wakeup_init();
	coord_by_hand_init();
	if (process_shared_preload_libraries_in_progress)
	{
		coord_shared_init();
		coord_commands_init();
		if (!IsBinaryUpgrade)
			coord_launcher_register();	/* pg_upgrade must find what it wrote */
	}
}

/* version() */
Datum
coord_version(PG_FUNCTION_ARGS pg_attribute_unused())
{
	PG_RETURN_TEXT_P(cstring_to_text(COORD_VERSION));
}
