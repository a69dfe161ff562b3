// Package docs holds the documents. Runbooks and exercises will be embedded
// from here.
package docs
