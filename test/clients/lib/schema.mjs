// Validation by JSON Schema of 2020-12, in ajv's strict mode.  Two of its rules are
// of style: "type" may be a list, and "required" may speak of what is beside anyOf.

import Ajv2020 from "ajv/dist/2020.js";
import addFormats from "ajv-formats";

const ajv = new Ajv2020.default({ strict: true, allowUnionTypes: true, strictRequired: false, allErrors: true });
addFormats.default(ajv);

export function compile(schema) {
  return ajv.compile(schema);
}

// What is wrong with a value, or null.
export function faults(validate, value) {
  return validate(value) ? null : ajv.errorsText(validate.errors);
}
