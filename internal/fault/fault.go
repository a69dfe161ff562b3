// Package fault is the table of everything that can go wrong in a way an
// operator must act on, and the error type that carries it.
//
// A [Kind] is one row: a stable id, the exit code, what it means, what is
// still safe and what to do. Code that knows the operator's situation returns
// [New] or [Wrap]; layers above wrap with fmt.Errorf and %w as usual. One
// function, [Exit], turns any error into the process exit code, and the error
// reference in docs/errors.md is generated from [Table].
package fault

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"syscall"
)

// Error is a fault with its row of the table. Safe and Remedy replace the
// row's general words where the caller knows better; empty means the row's.
type Error struct {
	Kind   *Kind
	Detail string // what happened, lower case, names the object
	Safe   string
	Remedy string
	Err    error // cause, may be nil
}

// New makes an error of kind k. The detail says what happened and names the
// object; it is formatted like fmt.Errorf, and %w keeps a cause. A cause that is
// nil reads as one that is not known, and never as "%!w(<nil>)".
func New(k *Kind, format string, args ...any) *Error {
	if strings.Contains(format, "%w") && slices.Contains(args, nil) {
		args = slices.Clone(args)
		for i, a := range args {
			if a == nil {
				args[i] = errUnknown
			}
		}
	}
	err := fmt.Errorf(format, args...)
	return &Error{Kind: k, Detail: err.Error(), Err: errors.Unwrap(err)}
}

var errUnknown = errors.New("the cause is not known")

// WithRemedy replaces the table's general advice and returns e.
func (e *Error) WithRemedy(format string, args ...any) *Error {
	e.Remedy = fmt.Sprintf(format, args...)
	return e
}

// WithSafe replaces the table's words on what is still safe and returns e.
func (e *Error) WithSafe(format string, args ...any) *Error {
	e.Safe = fmt.Sprintf(format, args...)
	return e
}

func (e *Error) Error() string { return e.Detail }
func (e *Error) Unwrap() error { return e.Err }

// Is makes errors.Is(err, fault.NotFound) ask for the kind.
func (e *Error) Is(target error) bool {
	k, ok := target.(*Kind)
	return ok && k == e.Kind
}

// Find returns the outermost fault in err's chain, or nil.
func Find(err error) *Error {
	var e *Error
	if errors.As(err, &e) {
		return e
	}
	return nil
}

// Of is what an operator is told of err: the fault that the code named, or else
// the one that the operating system named, where it says enough by itself; or
// nil. What is still safe is then no more than what is always safe. Layers that
// may know more ask [Find].
func Of(err error) *Error {
	if e := Find(err); e != nil || err == nil {
		return e
	}
	switch {
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return &Error{Kind: NoSpace, Detail: err.Error(), Safe: Other.Safe, Err: err}
	case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EROFS):
		return &Error{Kind: Permission, Detail: err.Error(), Safe: Other.Safe, Err: err}
	}
	return nil
}

// Exit is the process exit code for err: 0 for nil, 130 when the operator
// interrupted, the kind's code, and 1 for everything else.
func Exit(err error) int {
	if err == nil {
		return 0
	}
	if e := Of(err); e != nil {
		return e.Kind.Exit
	}
	if errors.Is(err, context.Canceled) {
		return Interrupted.Exit
	}
	return Other.Exit
}
