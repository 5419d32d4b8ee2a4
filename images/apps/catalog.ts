// The lab's catalog: four items under /items (and /api/items), one under /items/N. Image istioinaction/catalog, port 3000.
import { sendJson, serve } from './serve.ts';

const ITEMS = [
  { id: 1, color: 'amber', department: 'Eyewear', name: 'Elinor Glasses', price: '282.00' },
  { id: 2, color: 'cyan', department: 'Clothing', name: 'Atlas Shirt', price: '127.00' },
  { id: 3, color: 'teal', department: 'Clothing', name: 'Small Metal Shoes', price: '232.00' },
  { id: 4, color: 'red', department: 'Watches', name: 'Red Dragon Watch', price: '232.00' },
];

serve(Number(process.env.PORT ?? 3000), (req, res) => {
  const path = (req.url ?? '/').split('?')[0]!.replace(/^\/api/, '');
  console.log(`request path: ${req.url}`);
  if (path === '/items') return sendJson(res, 200, ITEMS);
  const item = /^\/items\/(\d+)$/.exec(path);
  const found = item && ITEMS.find((i) => i.id === Number(item[1]));
  if (found) return sendJson(res, 200, found);
  sendJson(res, path === '/' ? 200 : 404, path === '/' ? { service: 'catalog' } : { error: 'not found' });
});
