package main

import (
	"os"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// testAs in the environment makes the test binary be emsafe: tests that kill
// it, or send it signals, need a process of its own.
const testAs = "EMSAFE_TEST_AS"

func TestMain(m *testing.M) {
	if os.Getenv(testAs) == "emsafe" {
		main()
		return
	}
	testscript.Main(m, map[string]func(){"emsafe": main})
}
