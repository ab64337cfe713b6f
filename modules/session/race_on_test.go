//go:build race

package session

const raceEnabled = true // sync.Pool drops things at random then
