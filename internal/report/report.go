// Package report is the look of every HTML report and page: one stylesheet,
// the states with their glyphs, tables, and plots in SVG.
//
// [New] is the call to start with: it parses a template that may use the
// partials of this package (icon, badge, gauge, waterfall, line, strip,
// calendar, spark), and [Write] renders it into one file that needs nothing
// else: the styles are inside, there is no script, and its own content policy
// forbids the browser to fetch anything. Everything goes through
// html/template, so text from a database cannot become markup.
//
// Light and dark follow the reader's system, A4 is what it prints to, and a
// state is always a colour, a shape and a word.
package report

import (
	"crypto/sha256"
	_ "embed" // the stylesheet and the partials
	"encoding/base64"
	"html/template"
	"io"
	"strings"
)

//go:embed style.css
var style string

//go:embed report.tmpl
var partials string

var base = template.Must(template.New("report").Funcs(template.FuncMap{
	"span": Span, "took": Took, "prose": Prose, "size": Size, "count": Count, "moment": Moment, "minute": Minute, "day": Date, "short": Short, "policy": func() string { return filePolicy },
	"style": func() template.CSS { return template.CSS(style) }, //nolint:gosec // our own file
}).Parse(partials))

// New parses a template that defines "content"; the partials are at hand.
func New(name, text string) (*template.Template, error) {
	t, err := base.Clone()
	if err != nil {
		return nil, err
	}
	return t.New(name).Parse(text)
}

// Must is [New] for a template of the program itself.
func Must(name, text string) *template.Template { return template.Must(New(name, text)) }

// Page is what surrounds the content.
type Page struct {
	Title  string
	State  State  // the colour of its icon
	Home   string // where the name at the top leads; "" in a file that stands alone
	Footer string
	Data   any // what "content" is given
}

// Write renders one whole document.
func Write(w io.Writer, t *template.Template, p Page) error { return t.ExecuteTemplate(w, "page", p) }

// filePolicy is the part of the policy that a document may carry itself.
var filePolicy = func() string {
	sum := sha256.Sum256([]byte(style))
	return "default-src 'none'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'; img-src data:; base-uri 'none'; form-action 'none'"
}()

// Policy is the Content-Security-Policy that a server sends with a page: this
// stylesheet, the icon inside the page, and nothing else.
func Policy() string { return filePolicy + "; frame-ancestors 'none'" }

// Icon is the page's icon as a data URL, in the colour of its state.
func (p Page) Icon() template.URL {
	color := map[State]string{OK: "1a7f4b", Missed: "b7791f", Overdue: "c2570c", Failed: "c0282d"}[p.State]
	if color == "" {
		color = "5b6b82"
	}
	return template.URL("data:image/svg+xml," + strings.NewReplacer("<", "%3C", ">", "%3E", "#", "%23", `"`, "'").Replace( //nolint:gosec // no part of it comes from outside
		`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 16 16"><rect width="16" height="16" rx="4" fill="#`+color+`"/>`+
			`<path d="M4.5 8.4l2.4 2.4 4.8-5.4" fill="none" stroke="#fff" stroke-width="1.8" stroke-linecap="round" stroke-linejoin="round"/></svg>`))
}
