//go:build !race

package pgsql

const raceEnabled = false
