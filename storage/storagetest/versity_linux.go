package storagetest

import (
	"os/exec"
	"syscall"
)

// dieWithParent: a test binary that is killed must not leave its server.
func dieWithParent(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}
