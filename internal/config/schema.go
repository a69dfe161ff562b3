package config

import (
	"encoding/json"
	"strings"
)

// object is a JSON object.
type object = map[string]any

// Schema is the file as a JSON Schema (draft 2020-12), for editors. It is
// looser than [Parse] where ${NAME} may stand for a value, and knows nothing
// of what belongs together.
func Schema() []byte {
	root := mappingSchema("")
	root["$schema"] = "https://json-schema.org/draft/2020-12/schema"
	root["title"] = "emsafe configuration"
	root["$defs"] = object{
		"secret":   sourceSchema(),
		"variable": object{"type": "string", "pattern": `\$\{[A-Za-z_][A-Za-z0-9_]*\}`},
	}
	data, err := json.MarshalIndent(root, "", "  ")
	if err != nil {
		panic(err) // maps of strings
	}
	return append(data, '\n')
}

func mappingSchema(parent string) object {
	properties, required := object{}, []string{}
	for _, k := range children(parent) {
		properties[k.name()] = keySchema(k)
		if k.required {
			required = append(required, k.name())
		}
	}
	s := object{"type": "object", "additionalProperties": false, "properties": properties}
	if len(required) > 0 {
		s["required"] = required
	}
	return s
}

// keySchema is one key with its documentation.
func keySchema(k *key) object {
	s := valueSchema(k)
	s["description"] = strings.ReplaceAll(k.what, "`", "")
	if k.def != "" {
		s["default"] = k.def
		if k.kind == kindBoolean {
			s["default"] = k.def == "true"
		}
	}
	return s
}

func valueSchema(k *key) object {
	variable := object{"$ref": "#/$defs/variable"}
	orVariable := func(s object) object { return object{"anyOf": []any{s, variable}} }
	line := object{"type": "string", "minLength": 1}
	absolute := object{"type": "string", "pattern": `^(/|\$\{)`}
	switch k.kind {
	case kindNames:
		return object{
			"type": "object", "propertyNames": object{"pattern": nameForm.String()},
			"additionalProperties": mappingSchema(k.path + ".*"),
		}
	case kindNumber:
		return object{"const": Version}
	case kindBoolean:
		return orVariable(object{"type": "boolean"})
	case kindChoice:
		return orVariable(object{"enum": k.choices})
	case kindDuration:
		return object{"type": "string", "pattern": `^([0-9]+(\.[0-9]+)?(ms|s|m|h|d|w))+$|\$\{`}
	case kindSize:
		return object{"type": "string", "pattern": `^[0-9]+(\.[0-9]+)? ?([KMGT]i?|k)?B$|\$\{`}
	case kindGroup:
		return mappingSchema(k.path)
	case kindCount:
		return orVariable(object{"type": "integer", "minimum": 0})
	case kindPercent:
		return object{"anyOf": []any{object{"type": "integer", "minimum": 0, "maximum": 100}, object{"type": "string", "pattern": `^(100|[0-9]?[0-9])%?$|\$\{`}}}
	case kindValue:
		return object{"anyOf": []any{object{"type": "string", "minLength": 1}, object{"type": "number"}}}
	case kindAddress:
		return object{"type": "string", "pattern": `^(file:///|s3://)|\$\{`}
	case kindEndpoint:
		return object{"type": "string", "pattern": `^https?://|\$\{`}
	case kindPath:
		return absolute
	case kindPaths:
		return object{"type": "array", "minItems": 1, "uniqueItems": true, "items": absolute}
	case kindTexts, kindTargets:
		return object{"type": "array", "minItems": 1, "uniqueItems": true, "items": line}
	case kindWords:
		return object{"type": "array", "minItems": 1, "items": line}
	case kindSecret:
		if k.literal {
			return object{"anyOf": []any{object{"$ref": "#/$defs/secret"}, line}}
		}
		return object{"anyOf": []any{object{"$ref": "#/$defs/secret"}, variable}}
	}
	return line
}

// sourceSchema is where a secret may come from.
func sourceSchema() object {
	one := func(name string, value object) object {
		return object{"type": "object", "additionalProperties": false, "required": []string{name}, "properties": object{name: value}}
	}
	word := object{"type": "string", "minLength": 1}
	return object{"oneOf": []any{
		one("env", object{"type": "string", "pattern": variableName.String()}),
		one("file", object{"type": "string", "pattern": `^(/|\$\{)`}),
		one("credential", word),
		one("command", object{"type": "array", "minItems": 1, "items": object{"type": "string"}}),
	}}
}
