;; A component for a version of the world that is not there yet.
(component
  (instance $handler)
  (export "rgunicorn:http/handler@0.9.0" (instance $handler)))
