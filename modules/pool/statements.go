package pool

// statements remembers which prepared statements a server connection has, those used last up to a limit: a map for
// the look-up and a ring in order of use. The zero value with a limit is ready.
type statements struct {
	limit   int
	known   map[string]*statement
	ring    statement // ring.next was used last, ring.prev has been unused for longest
	evicted []string  // returned by learn, reused
}

// statement is one element of the ring.
type statement struct {
	name       string
	prev, next *statement
}

// use tells whether name is known, and moves it to the front.
func (s *statements) use(name string) bool {
	st, ok := s.known[name]
	if ok {
		st.unlink()
		s.pushFront(st)
	}
	return ok
}

// learn puts name in front and drops what is beyond the limit. The element dropped last is used again.
func (s *statements) learn(name string) []string {
	if s.known == nil {
		s.known = make(map[string]*statement)
		s.ring.prev, s.ring.next = &s.ring, &s.ring
	}
	known := s.use(name)
	room := max(1, s.limit)
	if !known {
		room--
	}
	var st *statement
	s.evicted = s.evicted[:0]
	for len(s.known) > room {
		st = s.ring.prev
		s.evicted = append(s.evicted, st.name)
		delete(s.known, st.name)
		st.unlink()
	}
	if known {
		return s.evicted
	}
	if st == nil {
		st = new(statement)
	}
	st.name = name
	s.known[name] = st
	s.pushFront(st)
	return s.evicted
}

// forget drops name.
func (s *statements) forget(name string) {
	if st, ok := s.known[name]; ok {
		delete(s.known, name)
		st.unlink()
	}
}

// forgetAll drops all names.
func (s *statements) forgetAll() {
	clear(s.known)
	s.ring.prev, s.ring.next = &s.ring, &s.ring
}

func (s *statements) pushFront(st *statement) {
	st.prev, st.next = &s.ring, s.ring.next
	st.prev.next, st.next.prev = st, st
}

func (st *statement) unlink() {
	st.prev.next, st.next.prev = st.next, st.prev
}
