// Package check is what the two Go programs share: checks that are reported one a line, and the word with the test that
// started them.
package check

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"reflect"
)

// Run runs a check. Its success is a line on standard output; its failure ends the program.
func Run(name string, check func() error) {
	if err := check(); err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
		os.Exit(1)
	}
	fmt.Println("ok", name)
}

// Restart has the test restart the primary, and returns when it accepts connections again.
func Restart() error {
	fmt.Println("restart")
	answer, err := bufio.NewReader(os.Stdin).ReadString('\n')
	if err != nil || answer != "restarted\n" {
		return fmt.Errorf("the primary was not restarted: %q, %w", answer, err)
	}
	return nil
}

// Equal returns an error unless the two are equal.
func Equal(got, want any) error {
	if !reflect.DeepEqual(got, want) {
		return fmt.Errorf("got %.200s, want %.200s", fmt.Sprint(got), fmt.Sprint(want))
	}
	return nil
}

// Code returns an error unless err is the server's with that SQLSTATE.
func Code(err error, code string) error {
	var e interface {
		error
		SQLState() string
	}
	if !errors.As(err, &e) || e.SQLState() != code {
		return fmt.Errorf("got %w, want SQLSTATE %s", err, code)
	}
	return nil
}
