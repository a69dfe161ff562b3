// Package docs holds the documents, and those that emsafe carries with it:
// runbooks and scenarios of exercises.
package docs

import "embed"

// Runbooks are the built-in procedures, as runbooks/ID.md.
//
//go:embed runbooks/*.md
var Runbooks embed.FS

// Scenarios are the built-in exercises, as tabletop/ID.md.
//
//go:embed tabletop/*.md
var Scenarios embed.FS
