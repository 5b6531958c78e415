import react from '@vitejs/plugin-react'
import { defineConfig } from 'vite'

// For work on the app: `npm run dev` beside a server on 8080; `npm run build` is what scripts/build_web.py calls.
export default defineConfig({
  plugins: [react()],
  base: '/',
  build: {
    target: 'es2022',
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    chunkSizeWarningLimit: 2000,
    emptyOutDir: true,
  },
  server: { proxy: { '/v1': 'http://127.0.0.1:8080' } },
})
