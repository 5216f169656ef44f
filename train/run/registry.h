/* The registries of methods and objectives as the configuration sees it. *local* */
#pragma once
#include "train/config/config.h"

const config_methods_t *registry_methods(void);
