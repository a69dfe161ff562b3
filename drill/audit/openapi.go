package audit

import (
	"encoding/json"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
)

// api is what the service says of its operations.
type api struct {
	ops    []operation
	public string // where everybody can read it, or ""
	err    error
}

// operation is one of them, made harmless: identifiers are the nil UUID, and
// bodies are broken.
type operation struct {
	method, path string // with identifiers filled in
	template     string
	query        []parameter
	inPath       bool // has an identifier
	takesBody    bool
	open         bool // of those that cannot ask who is there: health, log in
}

type parameter struct {
	name     string
	number   bool
	required bool
}

const nilUUID = "00000000-0000-0000-0000-000000000000"

var (
	// anonymous are operations that come before there are credentials.
	anonymous = regexp.MustCompile(`(?i)/(health|healthz|ready|readyz|live|livez|ping|status|login|logout|signin|sign-in|token|oauth2?|auth|register|signup|sign-up|password-reset|reset-password|forgot-password|docs|redoc|openapi\.json|metrics|robots\.txt|favicon\.ico)(/|$)`)
	braces    = regexp.MustCompile(`\{[^}]*\}`)
	limits    = regexp.MustCompile(`(?i)^(limit|per_page|page_size|pagesize|size|count|top|take)$`)
	searches  = regexp.MustCompile(`(?i)^(search|q|query|filter|term|name|text)$`)
)

var methods = []string{http.MethodGet, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete}

// parseOpenAPI reads what is needed of a description, version 2 or 3.
func parseOpenAPI(data []byte) ([]operation, error) {
	type param struct {
		Ref      string `json:"$ref"`
		Name     string `json:"name"`
		In       string `json:"in"`
		Required bool   `json:"required"`
		Type     string `json:"type"`
		Schema   struct {
			Type  any `json:"type"`
			AnyOf []struct {
				Type any `json:"type"`
			} `json:"anyOf"`
		} `json:"schema"`
	}
	var doc struct {
		BasePath   string                                `json:"basePath"`
		Paths      map[string]map[string]json.RawMessage `json:"paths"`
		Components struct {
			Parameters map[string]param `json:"parameters"`
		} `json:"components"`
	}
	if err := json.Unmarshal(data, &doc); err != nil {
		return nil, err
	}
	var ops []operation
	for template, item := range doc.Paths {
		var shared []param
		json.Unmarshal(item["parameters"], &shared) //nolint:errcheck // none, then
		for _, method := range methods {
			raw, ok := item[strings.ToLower(method)]
			if !ok || !strings.HasPrefix(template, "/") {
				continue
			}
			var o struct {
				Parameters  []param         `json:"parameters"`
				RequestBody json.RawMessage `json:"requestBody"`
			}
			if err := json.Unmarshal(raw, &o); err != nil {
				return nil, err
			}
			op := operation{method: method, template: template, path: strings.TrimSuffix(doc.BasePath, "/") + braces.ReplaceAllString(template, nilUUID),
				inPath: strings.Contains(template, "{"), takesBody: o.RequestBody != nil, open: anonymous.MatchString(template)}
			for _, p := range append(shared, o.Parameters...) {
				if name, ok := strings.CutPrefix(p.Ref, "#/components/parameters/"); ok {
					p = doc.Components.Parameters[name]
				}
				types := []any{p.Type, p.Schema.Type}
				for _, any := range p.Schema.AnyOf {
					types = append(types, any.Type)
				}
				number := slices.ContainsFunc(types, func(t any) bool { return t == "integer" || t == "number" })
				switch p.In {
				case "query":
					op.query = append(op.query, parameter{p.Name, number || limits.MatchString(p.Name), p.Required})
				case "body":
					op.takesBody = true
				}
			}
			ops = append(ops, op)
		}
	}
	slices.SortFunc(ops, func(a, b operation) int {
		if c := strings.Compare(a.template, b.template); c != 0 {
			return c
		}
		return slices.Index(methods, a.method) - slices.Index(methods, b.method)
	})
	return ops, nil
}

// harmless reports whether an operation can be called without a change: it only
// reads, or it gets an identifier that nothing has, or a body that no parser
// takes.
func (o operation) harmless() bool {
	return o.method == http.MethodGet || o.inPath || o.takesBody && o.method != http.MethodDelete
}

// broken is a body that no parser takes.
const broken = `{"emsafe-audit": `

// request is the operation as it is called.
func (o operation) request(header map[string]string) request {
	r := request{method: o.method, path: o.path, header: map[string]string{}}
	for k, v := range header {
		r.header[k] = v
	}
	if o.method != http.MethodGet {
		r.body = broken
		if r.header["Content-Type"] == "" {
			r.header["Content-Type"] = "application/json"
		}
	}
	return r
}

// with is the path with a query.
func (o operation) with(pairs ...string) string {
	q := url.Values{}
	for i := 0; i < len(pairs); i += 2 {
		q.Set(pairs[i], pairs[i+1])
	}
	return o.path + "?" + q.Encode()
}

func (o operation) like(form *regexp.Regexp) string {
	for _, p := range o.query {
		if form.MatchString(p.name) {
			return p.name
		}
	}
	return ""
}

// listing is an operation that reads without an identifier.
func (s api) listing() (operation, bool) {
	for _, o := range s.ops {
		if o.method == http.MethodGet && !o.inPath && !o.open {
			return o, true
		}
	}
	return operation{}, false
}
