package command

import "syscall"

// dieWithParent has the kernel kill the program when this process is gone.
func dieWithParent(a *syscall.SysProcAttr) { a.Pdeathsig = syscall.SIGKILL }
