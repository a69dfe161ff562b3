package seal

import (
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	jsonv1 "github.com/go-json-experiment/json/v1"
)

// Decode reads the JSON text of a signed object into doc. Unlike
// encoding/json it compares keys by case, refuses a key that occurs twice in
// one object, and refuses text that is not UTF-8: every reader of a signed
// text, in whatever language, must read the same out of it.
func Decode(text []byte, doc any) error {
	return json.Unmarshal(text, doc, jsonv1.DefaultOptionsV1(),
		json.MatchCaseInsensitiveNames(false), jsontext.AllowDuplicateNames(false), jsontext.AllowInvalidUTF8(false))
}
