;; A core module that does not say which world it is for.
(module
  (memory (export "memory") 1)
  (func (export "handle")))
